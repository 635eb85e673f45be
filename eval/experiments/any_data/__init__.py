"""Sound, series, film and volumes: do maps point at events whose place is known?"""
