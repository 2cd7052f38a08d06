// The last points of one worker, for its sparklines. A ring of fixed size: it never grows.

/** The figures of a point, in the order of the API's `[age_ms, …]`. */
export const SERIES = { cpu: 0, ram: 1, gpu: 2, vram: 3 };
const FIGURES = 4;
/** Points closer than this replace each other: an event sends an extra heartbeat. */
const APART_MS = 400;

export class History {
  /** Holds `size` points; times are of `performance.now()`. */
  constructor(size) {
    this.size = size;
    this.times = new Float64Array(size);
    this.values = new Float32Array(size * FIGURES);
    this.start = 0;
    this.length = 0;
  }

  /** Adds a point. */
  push(time, cpu, ram, gpu, vram) {
    if (this.length > 0 && time - this.time(this.length - 1) < APART_MS) this.length -= 1;
    if (this.length === this.size) this.start = (this.start + 1) % this.size;
    else this.length += 1;
    const at = (this.start + this.length - 1) % this.size;
    this.times[at] = time;
    this.values.set([cpu, ram, gpu, vram], at * FIGURES);
  }

  /** Puts what the queen kept before what came live since. */
  load(points, now) {
    const newest = points.length ? now - points[points.length - 1][0] : -Infinity;
    const live = [];
    for (let i = 0; i < this.length; i += 1) {
      if (this.time(i) > newest + APART_MS) live.push([this.time(i), ...this.point(i)]);
    }
    this.length = 0;
    for (const [age, ...figures] of points.slice(-this.size)) this.push(now - age, ...figures);
    for (const point of live) this.push(...point);
  }

  /** When the i-th point was, the oldest being 0. */
  time(i) {
    return this.times[(this.start + i) % this.size];
  }

  /** One figure of the i-th point. */
  value(i, series) {
    return this.values[((this.start + i) % this.size) * FIGURES + series];
  }

  point(i) {
    const at = ((this.start + i) % this.size) * FIGURES;
    return this.values.subarray(at, at + FIGURES);
  }
}
