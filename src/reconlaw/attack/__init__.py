"""From θ and the feature map to X̂. Nothing here imports the data, nor what scores against it."""
