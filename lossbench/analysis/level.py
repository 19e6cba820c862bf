"""The level of significance of all claims, and the fewest paired seeds that can reach it."""

from __future__ import annotations

ALPHA = 0.05
PAIRS = 6  # fewer cannot reach ALPHA, whatever the data: with five, the smallest p of a sign-flip test is 2/2⁵ = .0625
