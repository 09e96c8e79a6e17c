// Where the interface logs to: silent unless somebody asks for it in the browser.
export const logger = {
  debug(...words: unknown[]): void {
    if (localStorage.getItem("shop-debug")) {
      console.debug("[shop]", ...words);
    }
  },
};
