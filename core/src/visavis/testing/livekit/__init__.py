"""The LiveKit bench of the kit: a real livekit-server on loopback, viewers that measure, a browser.

``pip install visavis[testing-livekit]``, and in a ``conftest.py``::

    pytest_plugins = ["visavis.testing.livekit.fixtures"]

gives tests the fixtures ``livekit_server`` (one a test session) and ``room_name`` (new for every test).
"""
