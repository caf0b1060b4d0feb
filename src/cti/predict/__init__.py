"""A trained network applied to photos: predictor, predictions, labelling of folders, the hub."""
