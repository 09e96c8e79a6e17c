import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Search() {
  const [hits, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/search").then((body) => {
      console.log("search loaded", body);
      if (live) {
        set(body.hits as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("search left");
    };
  }, []);

  return (
    <section aria-label="Search">
      <h2>Search</h2>
      <ul>
        {hits.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
