"""Addresses of the API, a module for each field."""
