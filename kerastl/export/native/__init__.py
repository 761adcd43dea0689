"""Ask an export without Python: a small C program on TensorFlow's own C++ loader, built where it is first needed."""
