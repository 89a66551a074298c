"""Search: spends inference compute on a generator and a reward. One budget meter, each search beside its equal-budget baseline."""
