"""Imported once, by the helper process that workers are forked from (`workers.py`): what every reward needs.

A process manager may send SIGTERM to every process of a service; the helper and the workers leave it to the service, which
finishes what it accepted and then closes their pipes.
"""

import signal

import torch  # noqa: F401

import plaudit.engines.catalogue
import plaudit.rewards.catalogue
import plaudit.rewards.generative
import plaudit.rewards.rules
import plaudit.serve.host  # noqa: F401

signal.signal(signal.SIGTERM, signal.SIG_IGN)
