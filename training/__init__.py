"""What runs inside a training job: the agent, the recipes and the export to ONNX."""
