"""What a server needs beside a model's graph: warm-up requests, a model card, settings, a client. No TensorFlow but for the first."""
