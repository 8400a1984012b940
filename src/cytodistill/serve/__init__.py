"""The service: a run behind a REST API, with a store of cells and reviews beside it.

`app.create_app` makes the ASGI application; `run.serve` runs it as `cytodistill serve` does.
"""
