views.downloads = (block) => {
  block.querySelectorAll("button.file").forEach((button, place) => button.addEventListener("click", async () => {
    const [name, media, text] = (await dataOf(block))[place];
    hand(name, media, text);
  }));
};
