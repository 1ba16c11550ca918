// Pictures to begin with. A picture is a Float64Array of side² pixels by rows: 0 is paper, 1 is ink.

const drawings = [
  ".##..##. ######## ######## ######## .######. ..####.. ...##... ........",
  "..####.. .#....#. #.#..#.# #......# #.#..#.# #..##..# .#....#. ..####..",
  "...##... ..####.. .######. ##.##.## ######## ..#..#.. .#.##.#. #.#..#.#",
];

// Twenty handwritten digits of 8 × 8 pixels in seventeen tones, 0…g; two of each, the first in scikit-learn's
// copy of: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
// Repository (1998), https://doi.org/10.24432/C50P49, licensed CC BY 4.0
// (https://creativecommons.org/licenses/by/4.0/).
const digits = [
  [0, "005d910000dfaf5003f20b8004c008800580098004b01c7002e5ac00006da000"],
  [0, "0019fb0000bg8e6002ga099001g4088004g4088001g51b3000ccaa00001ad300"],
  [1, "000cd500000bg900003fg60007fgg200001gg300001gg600001gg600000bga00"],
  [1, "0000ed100005gg20000egc0001aggc0003ceg9000005gf000004ge000001dg10"],
  [2, "0004fc00003gfe00008d8g000016fb00018df10009gg500003dggb500003bg90"],
  [2, "005c100000fe700000d1c00002a0e0000020g1000006f000009gf982003b8dc4"],
  [3, "007fd10008d6f400021dd000002fb1000001cc1000001a8000845e90007dd900"],
  [3, "029fe93004d89g800006ef30000be2000002fb0000002f400156dg6002ccdb00"],
  [4, "0001b00000078000001d6220007f098005ga0g6004fgdg100003fa000002g400"],
  [4, "0008f100001ed11000af3fb007g71g8009gdeg5001afge000001ga00000af400"],
  [5, "00ca000000egge0000dgfa1000bgg70000047g7000004g900054cg40009gga00"],
  [5, "05cdgg200bgf840008eb100008gge0000166g0000005g300015fd00004fg2000"],
  [6, "000cd000005g800000dg300000ed000000fc720000dgdg30007gbf800019fb30"],
  [6, "0008f100000ce000003g7000006g2000007ggd5000fg99e0003e92g20007fgb0"],
  [7, "0078dgf100774bc000008d100488ff6002bff400000g5000009f100000d50000"],
  [7, "0018fa0003dfee0005a0ac000035fa2000ggggc0018ce830000ad000000b9000"],
  [8, "009e810000ceec00009a0f40003gce20004gg20003g8ad2001f13g8000bgfb10"],
  [8, "00a7d900009acf20004bab00001ga10000cd400000c1c00001a2e00000be5000"],
  [9, "00bc000002gggd0003gcae0001g1cf0000dg9f20000309b000009f40009cd300"],
  [9, "006e400000bga000008eg200001ccb0000000b30000005b0001447g2007ggdb1"],
];

const fromText = (text) => Float64Array.from(text.replaceAll(" ", ""), (ink) => (ink === "#" ? 1 : 0));
const fromTones = (tones) => Float64Array.from(tones, (tone) => parseInt(tone, 17) / 16);

export const EXAMPLES = [...drawings.map(fromText), fromTones(digits[7][1])];
export const DIGITS = digits.map(([digit, tones]) => ({ digit, pixels: fromTones(tones) }));

/** A picture on a grid of another size, by linear interpolation between the centres of the pixels. */
export function resample(pixels, side) {
  const from = Math.sqrt(pixels.length);
  if (from === side) return pixels;
  const at = (row, column) => pixels[clamp(row, from) * from + clamp(column, from)];
  return Float64Array.from({ length: side * side }, (_, k) => {
    const y = ((Math.floor(k / side) + 0.5) * from) / side - 0.5;
    const x = (((k % side) + 0.5) * from) / side - 0.5;
    const row = Math.floor(y), column = Math.floor(x), down = y - row, right = x - column;
    const upper = (1 - right) * at(row, column) + right * at(row, column + 1);
    const lower = (1 - right) * at(row + 1, column) + right * at(row + 1, column + 1);
    return (1 - down) * upper + down * lower;
  });
}

const clamp = (index, side) => Math.min(Math.max(index, 0), side - 1);
