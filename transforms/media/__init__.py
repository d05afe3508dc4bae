"""Look at media before it is sent: types, faults, transcoding and pieces."""
