"""VTAB-1k from TFDS folders, image lists or the hub, without TensorFlow."""
