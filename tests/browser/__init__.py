"""The console page in a real browser: Debian's Chromium, headless, with a server of its own.

``npm install`` in ``tests/browser`` gets axe-core, which looks for barriers. With
``PINGHUB_PICTURES=1`` the pictures of the page go to ``docs/pictures``, otherwise nowhere.
"""
