// Where the pages log to; silent in production.
export const logger = {
  debug(...words: unknown[]): void {
    if (localStorage.getItem("debug")) {
      globalThis.console.debug(...words);
    }
  },
};
