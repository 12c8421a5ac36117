"""diffusers: any image-to-image or video-to-video pipeline as a calibrated refiner, with no pipeline forked."""
