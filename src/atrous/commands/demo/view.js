// Reads class and confidence where the pointer is, and moves the border between photograph and mask.
const readers = new WeakMap();

function reader(view) {
  const image = view.querySelector(".numbers");
  if (!readers.has(image)) {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    readers.set(image, { context, width: canvas.width, height: canvas.height });
  }
  return readers.get(image);
}

function read(view, across, down) {
  const { context, width, height } = reader(view);
  const x = Math.min(width - 1, Math.max(0, Math.floor(across * width)));
  const y = Math.min(height - 1, Math.max(0, Math.floor(down * height)));
  const [label, confidence] = context.getImageData(x, y, 1, 1).data;
  const names = JSON.parse(view.dataset.classes);
  view.querySelector(".read").textContent = `${names[label]}, ${confidence} % sure`;
  view.dataset.across = (x + 0.5) / width;
  view.dataset.down = (y + 0.5) / height;
  const point = view.querySelector(".point");
  point.hidden = false;
  point.style.left = `${(100 * (x + 0.5)) / width}%`;
  point.style.top = `${(100 * (y + 0.5)) / height}%`;
}

element.addEventListener("pointermove", (event) => {
  const stack = event.target.closest(".stack");
  if (!stack) return;
  const box = stack.getBoundingClientRect();
  read(stack.closest(".atrous-view"), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});

element.addEventListener("keydown", (event) => {
  const stack = event.target.closest(".stack");
  const step = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] }[event.key];
  if (!stack || !step) return;
  event.preventDefault();
  const view = stack.closest(".atrous-view");
  read(view, Number(view.dataset.across || 0.5) + step[0], Number(view.dataset.down || 0.5) + step[1]);
});

element.addEventListener("input", (event) => {
  const view = event.target.closest(".atrous-view");
  if (!view) return;
  if (event.target.matches(".shown")) view.style.setProperty("--shown", `${event.target.value}%`);
  if (event.target.matches(".strength")) view.style.setProperty("--strength", event.target.value / 100);
});
