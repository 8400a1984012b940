"""Cells of a field as other tools write them, and answers as those tools read them: GeoJSON, COCO and tables."""
