export const SETTING = {"activation": "relu", "seed": 1};
export const RUNS = {};
