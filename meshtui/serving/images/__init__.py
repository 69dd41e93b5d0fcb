"""A server of pictures on diffusers, with OpenAI's shapes of requests and answers.

It runs in a runtime or a pod, where meshtui itself is not installed: `serving/run_images.py` loads
this folder alone. It needs diffusers, torch, Pillow, starlette and uvicorn, and nothing of meshtui.
"""
