"""Networks for tables: members that share weights, trained on all folds at once."""
