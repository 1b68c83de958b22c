"""VTAB-1k from TFDS folders or image lists, without TensorFlow."""
