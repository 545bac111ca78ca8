"""Why a step failed or a VM does not answer: collect what can be seen, judge it by rules, keep it."""
