// The search runs in a worker, which browsers refuse to pages that were opened from the disk. There,
// a hidden frame of the same page runs the script instead, behind the interface of a worker.
class FrameWorker extends EventTarget {
  constructor(url) {
    super();
    this.waiting = [];
    this.frame = document.createElement("iframe");
    this.frame.hidden = true;
    this.frame.addEventListener("load", () => this.start(new URL(url, location.href)), { once: true });
    this.frame.srcdoc = "<!doctype html>";
    document.documentElement.append(this.frame);
  }

  start(url) {
    const inside = this.frame.contentWindow;
    inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
    const script = inside.document.createElement("script");
    script.src = url.href;
    script.addEventListener("load", () => {
      this.inside = inside;
      this.waiting.forEach((data) => this.postMessage(data));
    });
    inside.document.body.append(script);
  }

  postMessage(data) {
    if (this.inside) {
      this.inside.dispatchEvent(new this.inside.MessageEvent("message", { data }));
    } else {
      this.waiting.push(data);
    }
  }

  terminate() {
    this.frame.remove();
  }
}

if (location.protocol === "file:") {
  window.Worker = FrameWorker;
}
