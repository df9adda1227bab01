"""What out-of-fold predictions say of a model: computed when a fit is over, kept beside the model as JSON."""
