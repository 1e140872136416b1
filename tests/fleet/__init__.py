"""Two replicas behind other people's routers."""
