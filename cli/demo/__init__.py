"""`mlops demo`: the main job from nothing to a scored model, in front of the user's eyes."""
