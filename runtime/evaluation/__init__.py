"""How good are a file's boxes? Records of labelled images, metrics of them, a page about them."""
