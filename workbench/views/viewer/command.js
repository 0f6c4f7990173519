views.command = (block) => {
  const button = block.querySelector("button.copy"), code = block.querySelector("code");
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    // The clipboard is closed to some file:// pages: the text then stays selected for the reader's own copy key.
    const copied = navigator.clipboard ? await navigator.clipboard.writeText(code.textContent).then(() => true, () => false) : false;
    button.textContent = copied || document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  });
};
