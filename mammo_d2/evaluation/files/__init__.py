"""Result files: COCO results, image scores, predictions."""
