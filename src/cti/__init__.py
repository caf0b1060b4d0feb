"""cti: from photos with image-level tags to pixel masks and a trained segmentation network."""
