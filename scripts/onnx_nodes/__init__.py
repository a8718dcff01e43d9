"""The onnx package's tests of single operators, compiled for HTP and run in its simulator."""
