"""Servers as GPU pods on a Kubernetes cluster: described, watched and explained."""
