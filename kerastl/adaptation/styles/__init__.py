"""Pictures given the style of other pictures, each as a plain function of tensors."""
