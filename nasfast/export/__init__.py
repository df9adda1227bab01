"""Trained networks for deployment: ONNX and torch.export."""
