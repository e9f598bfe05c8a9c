"""Pictures: mammograms with boxes, saliency and patches drawn on them."""
