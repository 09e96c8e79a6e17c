import { useEffect, useState } from "react";
import { fetchJSON } from "../api";
import { logger } from "../logger";

export function Reviews() {
  const [reviews, set] = useState<string[]>([]);

  useEffect(() => {
    var live = true;
    fetchJSON("/reviews").then((body) => {
      console.log("reviews loaded", body);
      if (live) {
        set(body.reviews as string[]);
      }
    });
    return () => {
      live = false;
      logger.debug("reviews left");
    };
  }, []);

  return (
    <section aria-label="Reviews">
      <h2>Reviews</h2>
      <ul>
        {reviews.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ul>
    </section>
  );
}
