"""The LiveKit bench of the kit: a real livekit-server on loopback, viewers that measure, a browser.

``pip install visavis[testing-livekit]``, and in a ``conftest.py``::

    pytest_plugins = ["visavis.testing.livekit.fixtures"]

gives tests the fixtures ``livekit_server`` (one a test session), ``room_name`` (new for every test) and ``chromium``.
With VISAVIS_REQUIRE_LIVEKIT=1 a missing server or browser fails the test instead of skipping it.

| module | what it brings |
|---|---|
| ``server`` | ``LiveKitServer``: found or built once; tokens, kill, freeze |
| ``viewer`` | ``watching``: a viewer in a process of its own that records what a subscriber gets |
| ``recording``, ``reading`` | what it recorded; offsets, gaps, lengths, tones, colours read off it |
| ``sender`` | ``speaking_to``: a client of the bare SDK that streams on ``lk.audio_stream`` and interrupts |
| ``flash`` | a renderer whose pictures say what the sound beside them does |
| ``floor`` | the plain SDK publishing ready pictures: what figures stand beside |
| ``browser`` | a real Chromium |
"""
