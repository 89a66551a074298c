"""Search: spends inference compute on a generator and a reward. One budget meter, and a baseline of equal budget for each."""
