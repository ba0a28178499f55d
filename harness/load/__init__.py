"""Sending traffic to a server and bringing back columns.

``driver.HttpLoadDriver`` is the door. On the way: ``bodies`` (what is sent), ``pacing`` (when),
``client`` (one request, time stamps and bytes only), ``sse`` and ``collect`` (what the bytes said,
read after the load has ended).
"""
