"""Timings behind tools/benchmark.py: ratios measured in one run, alternating."""

from mammo_d2.core.processes.threads import set_thread_defaults

set_thread_defaults()  # before torch is imported
