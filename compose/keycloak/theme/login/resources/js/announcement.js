// What the facility has to say today, from the front service by way of the same name.
// Shown as text, never as HTML. The page is as good without it.
document.addEventListener("DOMContentLoaded", async () => {
  try {
    const answer = await fetch("/-/announcement");
    if (!answer.ok) return;
    const { announcement } = await answer.json();
    if (typeof announcement !== "string" || !announcement.trim()) return;
    const box = document.createElement("p");
    box.id = "af-announcement";
    box.setAttribute("role", "status");
    box.textContent = announcement;
    document.querySelector("main").prepend(box);
  } catch {
    // No announcement.
  }
});
