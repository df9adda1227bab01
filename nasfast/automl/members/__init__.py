"""Members of a model: each predicts on its own, the ensemble weighs them."""
