// The boards of one job: an image each, told of its events.

import { Board } from "/static/board.js";
import { percent, waiting } from "/static/job.js";

const BROKEN = "The connection broke; the job goes on, and so does this page as soon as it can.";

export class Boards {
  /** `grid`: where they lie; `report`: says what the boards cannot. */
  constructor(grid, report) {
    [this.grid, this.report, this.all] = [grid, report, []];
  }

  /** `count` boards of `cells` x `cells` codes, all masked; `steps`: previews to expect. */
  layOut(count, cells, steps) {
    this.all = Array.from({ length: count }, () => new Board(cells, steps));
    this.grid.dataset.count = count;
    this.grid.replaceChildren(...this.all.map((board) => board.element));
  }

  /** One event of the job. */
  tell(type, data) {
    if (type === "preview") this.all[data.index].preview(data);
    else if (type === "step") this.report.say(this.standing(data));
    else if (type === "lost") this.report.announce(BROKEN);
    else {
      this.begin(type);
      this.report.announce(type === "queued" ? waiting(data) : "A worker has begun");
    }
  }

  /** Steps are counted over all images, which take them side by side. */
  standing({ taken, steps, known }) {
    const [step, last] = [taken, steps].map((number) => Math.ceil(number / this.all.length));
    return `Step ${step} of ${last}, ${percent(known)} of the codes known`;
  }

  begin(state) {
    for (const board of this.all) board.begin(state);
  }

  /** The finished images, once all frames were seen; resolves with whether any of these came late. */
  async fill(job, nameOf, captionOf) {
    const filled = job.images.map((url, index) => this.all[index].finish(url, nameOf(index), ...captionOf(index)));
    return Math.max(...(await Promise.all(filled))) > 0;
  }
}
