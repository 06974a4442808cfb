// H.264 made by hand: frames of one colour each, a macroblock of raw samples and then predictions of it; any decoder takes them.
export type Rgb = readonly [red: number, green: number, blue: number];

export interface H264 {
  /** What MP4 calls the AVC configuration record. */
  description: Uint8Array;
  /** One frame, its length before it, as MP4 wants it. */
  frame(colour: Rgb, index: number): Uint8Array;
}

/** Width and height in pixels, both even. */
export function createH264(width: number, height: number): H264 {
  const columns = Math.ceil(width / 16);
  const rows = Math.ceil(height / 16);
  const sequence = nal(0x67, sequenceSet(width, height, columns, rows));
  const picture = nal(0x68, pictureSet());
  const description = new Uint8Array([1, 66, 0xc0, 51, 0xff, 0xe1, ...counted(sequence), 1, ...counted(picture)]);
  return {
    description,
    frame(colour, index) {
      const unit = nal(0x65, slice(columns, rows, toYuv(colour), index));
      const framed = new Uint8Array(4 + unit.length);
      new DataView(framed.buffer).setUint32(0, unit.length);
      framed.set(unit, 4);
      return framed;
    },
  };
}

/** A unit with its length in two bytes before it. */
function counted(unit: Uint8Array): number[] {
  return [unit.length >> 8, unit.length & 255, ...unit];
}

function sequenceSet(width: number, height: number, columns: number, rows: number): Uint8Array {
  const bits = createBits();
  bits.put(66, 8); // baseline
  bits.put(0xc0, 8);
  bits.put(51, 8); // level 5.1
  bits.golomb(0); // id
  bits.golomb(0); // frame_num of 4 bits
  bits.golomb(2); // output order is decoding order
  bits.golomb(1); // reference frames
  bits.put(0, 1);
  bits.golomb(columns - 1);
  bits.golomb(rows - 1);
  bits.put(1, 1); // frames, no fields
  bits.put(1, 1); // direct 8×8
  const right = (columns * 16 - width) / 2;
  const bottom = (rows * 16 - height) / 2;
  bits.put(right || bottom ? 1 : 0, 1);
  if (right || bottom) for (const crop of [0, right, 0, bottom]) bits.golomb(crop);
  bits.put(0, 1); // no VUI
  return bits.end();
}

function pictureSet(): Uint8Array {
  const bits = createBits();
  for (const zero of [0, 0]) bits.golomb(zero); // ids
  bits.put(0, 2); // CAVLC
  for (const zero of [0, 0, 0]) bits.golomb(zero); // one slice group, one reference
  bits.put(0, 3); // no weighted prediction
  for (const zero of [0, 0, 0]) bits.golomb(zero); // quantizers 26
  bits.put(0b100, 3); // the deblocking filter can be told to stay off
  return bits.end();
}

/** An IDR slice: one macroblock of raw samples, and all the others predicted from their neighbours with nothing added. */
function slice(columns: number, rows: number, [y, u, v]: Rgb, index: number): Uint8Array {
  const bits = createBits();
  bits.golomb(0); // first macroblock
  bits.golomb(7); // I, in the whole picture
  bits.golomb(0);
  bits.put(0, 4); // frame_num
  bits.golomb(index % 2); // neighbouring IDR pictures differ in this
  bits.put(0, 2);
  bits.golomb(0); // quantizer
  bits.golomb(1); // no deblocking
  bits.golomb(25); // I_PCM
  bits.align();
  for (let sample = 0; sample < 256; sample++) bits.put(y, 8);
  for (let sample = 0; sample < 64; sample++) bits.put(u, 8);
  for (let sample = 0; sample < 64; sample++) bits.put(v, 8);
  for (let at = 1; at < columns * rows; at++) {
    bits.golomb(3); // 16×16, predicted from the mean of the neighbours, no coefficients but the DC's
    bits.golomb(0); // chroma alike
    bits.golomb(0); // the same quantizer
    // No DC coefficients either; the code for that depends on the neighbours, and raw samples count as 16.
    if (at === 1 || at === columns) bits.put(0b000011, 6);
    else bits.put(1, 1);
  }
  return bits.end();
}

function toYuv([red, green, blue]: Rgb): Rgb {
  const y = 16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256;
  const u = 128 + (-37.945 * red - 74.494 * green + 112.439 * blue) / 256;
  const v = 128 + (112.439 * red - 94.154 * green - 18.285 * blue) / 256;
  return [Math.round(y), Math.round(u), Math.round(v)];
}

/** Bytes of a unit of the bit stream: three zero bytes in a row must not occur, and 00 00 0x neither. */
function nal(header: number, payload: Uint8Array): Uint8Array {
  const out = [header];
  let zeros = 0;
  for (const byte of payload) {
    if (zeros === 2 && byte <= 3) {
      out.push(3);
      zeros = 0;
    }
    out.push(byte);
    zeros = byte === 0 ? zeros + 1 : 0;
  }
  return new Uint8Array(out);
}

function createBits() {
  const bytes: number[] = [];
  let pending = 0;
  let count = 0;
  const put = (value: number, width: number): void => {
    for (let bit = width - 1; bit >= 0; bit--) {
      pending = (pending << 1) | ((value >> bit) & 1);
      if (++count < 8) continue;
      bytes.push(pending);
      pending = 0;
      count = 0;
    }
  };
  const align = (): void => {
    put(0, (8 - count) % 8);
  };
  return {
    put,
    align,
    /** Unsigned Exp-Golomb; zero is the same in the signed one. */
    golomb(value: number): void {
      const width = 32 - Math.clz32(value + 1);
      put(0, width - 1);
      put(value + 1, width);
    },
    end(): Uint8Array {
      put(1, 1);
      align();
      return new Uint8Array(bytes);
    },
  };
}
