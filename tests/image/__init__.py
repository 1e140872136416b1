"""The images, built and run without a container daemon: `make image-test`."""
