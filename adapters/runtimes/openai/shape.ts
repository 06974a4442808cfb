// A size in pixels → the nearest of the shapes and resolutions that a server has names for.

export interface Shapes {
  /** `W:H`. */
  ratios: readonly string[];
  /** Name → side in pixels that it stands for. */
  resolutions: Readonly<Record<string, number>>;
  /** Which side: of a square with as many pixels, or the shorter one. */
  side: 'square' | 'short';
}

export interface Shape {
  aspect_ratio: string;
  resolution: string;
}

interface Size {
  width: number;
  height: number;
}

export function toShape({ width, height }: Size, { ratios, resolutions, side }: Shapes): Shape {
  const length = side === 'square' ? Math.sqrt(width * height) : Math.min(width, height);
  return {
    aspect_ratio: nearest(ratios, toRatio, width / height),
    resolution: nearest(Object.keys(resolutions), (name) => resolutions[name]!, length),
  };
}

/** By factors, so that twice as large is as far away as half as large; the first of equals. */
export function nearest(names: readonly string[], valueOf: (name: string) => number, wanted: number): string {
  const far = (name: string) => Math.abs(Math.log(valueOf(name) / wanted));
  return names.reduce((best, name) => (far(name) < far(best) - 1e-9 ? name : best));
}

function toRatio(name: string): number {
  const [wide, high] = name.split(':').map(Number) as [number, number];
  return wide / high;
}
