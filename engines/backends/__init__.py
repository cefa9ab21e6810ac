"""What runs a bundle: `opening` chooses among ONNX Runtime, OpenVINO, torch and TensorRT."""
