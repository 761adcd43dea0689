"""A model in the file of another runtime (ONNX, LiteRT, OpenVINO): decoded pictures in, probabilities out.

Each such format is a file in `kerastl/export/formats` that holds, beside `write`:

- `FILE`: the file that tells its folder from those of other formats;
- `NEEDS`: the packages that it imports, which the extra of the format's name installs;
- `opened(folder)`: the class names that the file itself holds, in order, and a function from pictures `[n, size, size, 3]`
  float32 in [0, 255] to probabilities `[n, classes]` float32. It imports its runtime and NumPy, nothing else:
  `kerastl verify` runs it in a process without TensorFlow, Keras and kerastl;
- `QUANTIZES`, where there is a choice: what `write(..., quantize=...)` takes.
"""
