// A player shows frames at a pace that an eye can follow, however fast they came.

const FRAME_MS = 80;
const LONGEST_MS = 3200;

export class Player {
  /** `show(frame)` draws one; `frames`: how many are to be expected, for many are shown faster. */
  constructor(show, frames) {
    this.show = show;
    this.paceMs = Math.min(FRAME_MS, LONGEST_MS / Math.max(1, frames));
    this.waiting = [];
    this.playing = null;
  }

  add(frame) {
    this.waiting.push(frame);
    this.playing ??= this.play();
  }

  async play() {
    while (this.waiting.length > 0) {
      await this.show(this.waiting.shift());
      await new Promise((resolve) => setTimeout(resolve, this.paceMs));
    }
    this.playing = null;
  }

  /** Frames of an attempt that is over. */
  drop() {
    this.waiting.length = 0;
  }

  /** Resolves when every frame has been seen; with how many of them were still to come. */
  async end() {
    const late = this.waiting.length;
    await this.playing;
    return late;
  }
}
